update copy_state
set position = $position, batch_id = $batch_id, committed_at = $committed_at
