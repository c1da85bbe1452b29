-- Makes a run. Returns when that was, in milliseconds since 1970, or 'already'.
-- KEYS: the hashes of the run and of its steps, and the list of the database's runs.
-- ARGV: the run's id; how many words are the run's own; those, then those of its steps: field, value.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'already' end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local own = tonumber(ARGV[2])
for i = 3, 2 + own, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'created_at', now, 'heartbeat', now)
for i = 3 + own, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[3], now, ARGV[1])
return now
