-- Renews a worker's hold on a job, and takes it back where it ran out and nobody else has taken the job.
-- KEYS: the job, its lock, the active jobs, the jobs that may be stalled. ARGV: token, milliseconds, the job's id.
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] then return 'lost' end
if not held then
  local active = false
  for _, id in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    if id == ARGV[3] then active = true end
  end
  if not active then return 'given out' end
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('SREM', KEYS[4], ARGV[3])
return 'ours'
