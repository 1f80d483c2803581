"""What Redis does with the queue in one step each: scripts, so that counts and entries agree.

Every script takes the same keys: the stream of entries, a hash of what is known of it (`token`,
`events`, `last`), the stream of dead letters, and the workers by when they were last heard of.
A write that needs no memory comes first wherever one can: a Redis whose memory is full runs what
follows it too, so that the queue can be drained then.
"""

from __future__ import annotations

_KEYS = "local entries, state, dead, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]\n"

# The stream with its group and its token, made where one is missing: the token tells this stream
# from one that was lost. ARGV[1] is a token to take, ARGV[2] the group.
_PREPARE = (
    _KEYS
    + """
local function prepare()
    local token = redis.call('HGET', state, 'token')
    if token and redis.call('EXISTS', entries) == 1 then return token end
    local made = redis.pcall('XGROUP', 'CREATE', entries, ARGV[2], '0', 'MKSTREAM')
    if made.err and not string.find(made.err, 'BUSYGROUP') then error(made.err) end
    redis.call('HSET', state, 'token', ARGV[1], 'events', redis.call('XLEN', entries))
    return ARGV[1]
end
local function remove(id, events)
    redis.call('XACK', entries, ARGV[2], id)
    if redis.call('XDEL', entries, id) == 0 then return false end
    local left = (tonumber(redis.call('HGET', state, 'events')) or 0) - events
    if left < 0 or redis.call('XLEN', entries) == 0 then left = 0 end
    redis.call('HSET', state, 'events', left)
    return true
end
local function field(fields, name)
    for at = 1, #fields, 2 do
        if fields[at] == name then return fields[at + 1] end
    end
end
"""
)

# ARGV[3]: how many events there may be; then for each entry its events and its bytes.
# The token, and for each entry its id, or nil where there was no room.
APPEND = (
    _PREPARE
    + """
local answer, most = {prepare()}, tonumber(ARGV[3])
local events = tonumber(redis.call('HGET', state, 'events') or 0)
local last = false
for at = 4, #ARGV, 2 do
    local more = tonumber(ARGV[at])
    if events > 0 and events + more > most then
        answer[#answer + 1] = false
    else
        last = redis.call('XADD', entries, '*', 'n', more, 'p', ARGV[at + 1])
        events = events + more
        answer[#answer + 1] = last
    end
end
if last then redis.call('HSET', state, 'events', events, 'last', last) end
return answer
"""
)

# ARGV[3]: the worker; ARGV[4], ARGV[5], ARGV[6]: so many events, bytes and entries are enough.
# New entries for the worker: id, times that it was handed out, events, bytes.
TAKE = (
    _PREPARE
    + """
prepare()
local taken, events, bytes = {}, 0, 0
while events < tonumber(ARGV[4]) and bytes < tonumber(ARGV[5]) and #taken < tonumber(ARGV[6]) do
    local read = redis.call(
        'XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', 1, 'STREAMS', entries, '>')
    if not read then break end
    local id, fields = read[1][2][1][1], read[1][2][1][2]
    local size, content = field(fields, 'n') or '0', field(fields, 'p') or ''
    taken[#taken + 1] = {id, 1, size, content}
    events, bytes = events + (tonumber(size) or 0), bytes + #content
end
return taken
"""
)

# The same for entries that another worker was given ARGV[7] milliseconds ago or more and that
# nobody has renewed since. Not by XAUTOCLAIM: an entry that was handed out ARGV[8] times before
# may be what kills workers, and comes alone, so that it takes no others with it.
RECLAIM = (
    _PREPARE
    + """
prepare()
local taken, events, bytes = {}, 0, 0
local idle = redis.call('XPENDING', entries, ARGV[2], 'IDLE', ARGV[7], '-', '+', 200)
for _, pending in ipairs(idle) do
    local id, times = pending[1], pending[4]
    local alone = times >= tonumber(ARGV[8])
    if not alone or #taken == 0 then
        local claimed = redis.call('XCLAIM', entries, ARGV[2], ARGV[3], ARGV[7], id)[1]
        if claimed then
            local size, content = field(claimed[2], 'n') or '0', field(claimed[2], 'p') or ''
            taken[#taken + 1] = {id, times + 1, size, content}
            events, bytes = events + (tonumber(size) or 0), bytes + #content
        else
            redis.call('XACK', entries, ARGV[2], id)
        end
        if alone and claimed then break end
        if events >= tonumber(ARGV[4]) or bytes >= tonumber(ARGV[5]) or #taken >= tonumber(ARGV[6])
        then break end
    end
end
return taken
"""
)

# For each entry its id and its events: it is committed and goes. How many events that were.
SETTLE = (
    _PREPARE
    + """
local settled = 0
for at = 3, #ARGV, 2 do
    local events = tonumber(ARGV[at + 1])
    if remove(ARGV[at], events) then settled = settled + events end
end
return settled
"""
)

# ARGV[3]: how many dead letters there may be; ARGV[4], ARGV[5]: id and events of the entry; then
# for each letter its events, bytes, reason and tries. 0 where there is no room for all of them;
# nothing is done then. An entry that somebody else has settled leaves no letters twice.
BURY = (
    _PREPARE
    + """
local now = redis.call('TIME')
local failed = now[1] .. string.format('%03d', math.floor(now[2] / 1000))
if redis.call('XLEN', dead) + (#ARGV - 5) / 4 > tonumber(ARGV[3]) then return 0 end
if #redis.call('XRANGE', entries, ARGV[4], ARGV[4]) == 0 then return 1 end
redis.call('XACK', entries, ARGV[2], ARGV[4])
for at = 6, #ARGV, 4 do
    redis.call('XADD', dead, '*', 'n', ARGV[at], 'p', ARGV[at + 1], 'reason', ARGV[at + 2],
        'tries', ARGV[at + 3], 'queued', string.match(ARGV[4], '%d+'), 'failed', failed)
end
remove(ARGV[4], tonumber(ARGV[5]))
return 1
"""
)

# ARGV[3]: the worker, who lives; then the entries that it has in hand.
RENEW = (
    _PREPARE
    + """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - 3600)
if #ARGV > 3 then
    -- By their ids only: else each renewal would count as one more try, and fetch the contents.
    local claim = {unpack(ARGV, 4, #ARGV)}
    claim[#claim + 1] = 'JUSTID'
    redis.pcall('XCLAIM', entries, ARGV[2], ARGV[3], 0, unpack(claim))
end
redis.call('ZADD', workers, now, ARGV[3])
"""
)

# ARGV[3]: the worker; ARGV[4]: how long its entries are to count as idle, in milliseconds; then
# each with how often it is to count as handed out.
GIVE_BACK = (
    _PREPARE
    + """
for at = 5, #ARGV, 2 do
    redis.call('XCLAIM', entries, ARGV[2], ARGV[3], 0, ARGV[at],
        'IDLE', ARGV[4], 'RETRYCOUNT', ARGV[at + 1], 'JUSTID')
end
"""
)

# ARGV[3]: the worker, who leaves. Its name is kept where something of it is still pending.
LEAVE = (
    _PREPARE
    + """
redis.call('ZREM', workers, ARGV[3])
local group = redis.pcall('XINFO', 'CONSUMERS', entries, ARGV[2])
if group.err then return end
for _, consumer in ipairs(group) do
    local name, pending, idle = field(consumer, 'name'), field(consumer, 'pending'), field(consumer, 'idle')
    if pending == 0 and (name == ARGV[3] or idle > 3600000) then
        redis.call('XGROUP', 'DELCONSUMER', entries, ARGV[2], name)
    end
end
"""
)

# ARGV[3]: for how many seconds a worker is believed to live after it was last heard of.
STATE = (
    _PREPARE
    + """
local now = redis.call('TIME')
local first = redis.call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
local pending = redis.pcall('XPENDING', entries, ARGV[2])
local known = redis.call('HMGET', state, 'token', 'events', 'last')
return {
    known[1] or '', tonumber(known[2] or 0), known[3] or '0-0',
    redis.call('XLEN', entries), first and first[1] or '',
    pending.err and 0 or pending[1], redis.call('XLEN', dead),
    redis.call('ZCOUNT', workers, now[1] - ARGV[3], '+inf'),
    now[1] * 1000 + math.floor(now[2] / 1000),
}
"""
)

# Ids of entries: those of them that are not there.
MISSING = (
    _PREPARE
    + """
local missing = {}
for at = 3, #ARGV do
    if #redis.call('XRANGE', entries, ARGV[at], ARGV[at]) == 0 then
        missing[#missing + 1] = ARGV[at]
    end
end
return missing
"""
)

# ARGV[3]: where to begin, as XRANGE takes it; ARGV[4], ARGV[5]: so many dead letters and bytes at
# the most, but one of any size. The letters as XRANGE gives them, and 1 where there are more.
LETTERS = (
    _KEYS
    + """
local found, bytes, start = {}, 0, ARGV[3]
while true do
    -- One by one: those that are too many need not be fetched.
    local letter = redis.call('XRANGE', dead, start, '+', 'COUNT', 1)[1]
    if not letter then return {found, 0} end
    for _, part in ipairs(letter[2]) do bytes = bytes + #part end
    if #found > 0 and (#found >= tonumber(ARGV[4]) or bytes > tonumber(ARGV[5])) then
        return {found, 1}
    end
    found[#found + 1] = letter
    start = '(' .. letter[1]
end
"""
)

# ARGV[3]: the ids of so many dead letters, oldest first.
LETTER_IDS = (
    _KEYS
    + """
local ids, start = {}, '-'
while #ids < tonumber(ARGV[3]) do
    local letter = redis.call('XRANGE', dead, start, '+', 'COUNT', 1)[1]
    if not letter then break end
    ids[#ids + 1] = letter[1]
    start = '(' .. letter[1]
end
return ids
"""
)

# ARGV[3]: how many events the queue may hold; then ids of dead letters, which are queued anew.
REPLAY = (
    _PREPARE
    + """
prepare()
local events, replayed = tonumber(redis.call('HGET', state, 'events') or 0), 0
for at = 4, #ARGV do
    local letter = redis.call('XRANGE', dead, ARGV[at], ARGV[at])[1]
    local size = letter and tonumber(field(letter[2], 'n') or 0)
    if letter and (events == 0 or events + size <= tonumber(ARGV[3])) then
        local last = redis.call('XADD', entries, '*', 'n', size, 'p', field(letter[2], 'p') or '')
        redis.call('XDEL', dead, ARGV[at])
        events, replayed = events + size, replayed + 1
        redis.call('HSET', state, 'events', events, 'last', last)
    end
end
return replayed
"""
)
