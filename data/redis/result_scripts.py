"""What Redis does in one go for shared results: whose turn it is, keeping, and dropping.

Every entry carries the epoch in which it was begun: the marks of the last drop of everything and of
the last one of its site. What is of another epoch is not there for anybody, whether or not it has
been deleted yet. The hash of drops holds these marks, as `last` that of the last drop whatever it
was of, and the batch that is the newest of all that shared answers rest on.
"""

# Entry, turn and drops; the position that is needed, the one at hand, a token, milliseconds of a
# turn, the site, the last drop as far as it was heard of, and milliseconds of the drops. Gives what
# to do, the entry if it is newer than the one at hand, and the last drop. `pcall`: where there is
# no memory for the turn, what is there can still be read.
ASK = """
local drops = redis.call('HMGET', KEYS[3], 'last', 'all', ARGV[5])
if not drops[1] then
    drops = {ARGV[6], ARGV[3], false}
    redis.pcall('HSET', KEYS[3], 'last', drops[1], 'all', drops[2])
    redis.pcall('PEXPIRE', KEYS[3], ARGV[7])
end
local found = redis.call('HMGET', KEYS[1], 'position', 'entry', 'epoch')
local position, entry = tonumber(found[1] or '-1'), found[2]
if found[3] ~= drops[2] .. (drops[3] or '') or position <= tonumber(ARGV[2]) then entry = false end
if position >= tonumber(ARGV[1]) and entry then return {'found', entry, drops[1]} end
local taken = redis.pcall('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4])
if type(taken) == 'table' and taken.err then return {'alone', entry, drops[1]} end
return {taken and 'mine' or 'busy', entry, drops[1]}
"""

# Entry, turn, drops, the index of a site and that of all sites; the entry, its position, its
# milliseconds, the token, the last drop before it was begun, its digest, the site's, milliseconds
# of the rest, and position and batch up to which the answers of this process rest on the ledger.
KEEP = """
local is_ours = redis.call('GET', KEYS[2]) == ARGV[4]
local drops = redis.call('HMGET', KEYS[3], 'last', 'all', ARGV[7], 'position')
if drops[1] == ARGV[5] then
    local epoch = drops[2] .. (drops[3] or '')
    local kept = redis.call('HMGET', KEYS[1], 'position', 'epoch')
    if kept[2] ~= epoch or tonumber(ARGV[2]) >= tonumber(kept[1]) then
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local gone = now + tonumber(ARGV[3])
        redis.call('ZADD', KEYS[4], gone, ARGV[6])
        redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
        redis.call('PEXPIRE', KEYS[4], ARGV[8])
        redis.call('ZADD', KEYS[5], now + tonumber(ARGV[8]), ARGV[7])
        redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now)
        redis.call('PEXPIRE', KEYS[5], ARGV[8])
        redis.call('HSET', KEYS[1], 'position', ARGV[2], 'entry', ARGV[1], 'epoch', epoch)
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
    end
    if tonumber(ARGV[9]) > tonumber(drops[4] or '0') then
        redis.call('HSET', KEYS[3], 'position', ARGV[9], 'batch', ARGV[10])
    end
    -- They outlive whatever is judged by them.
    redis.call('PEXPIRE', KEYS[3], ARGV[8])
end
if is_ours then redis.call('DEL', KEYS[2]) end
"""

RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

# The drops; the site, or nothing for all of them, the mark of this drop, and milliseconds. Gives the
# mark of the drop before, if any is known.
MARK = """
local before = redis.call('HGET', KEYS[1], 'last')
if ARGV[1] == '' then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'all', ARGV[2], 'last', ARGV[2])
else
    if redis.call('HEXISTS', KEYS[1], 'all') == 0 then
        redis.call('HSET', KEYS[1], 'all', ARGV[2])
    end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'last', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return before
"""

# The index of a site; what the keys of its entries begin with, and how many to drop at the most.
# Gives the digests of those that were there, and whether there are more.
DROP = """
local digests = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[2]) - 1)
local dropped = {}
for _, digest in ipairs(digests) do
    if redis.call('DEL', ARGV[1] .. digest) == 1 then table.insert(dropped, digest) end
    redis.call('ZREM', KEYS[1], digest)
end
return {dropped, redis.call('ZCARD', KEYS[1])}
"""
