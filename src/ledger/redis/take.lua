-- Gives a run to a new driver, under a new epoch. Returns the epoch, or a word: 'gone', 'done', 'superseded'.
-- KEYS: the hash of the run. ARGV: field, value of what the driver says of itself.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state == 'done' or state == 'superseded' then return state end
local time = redis.call('TIME')
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'heartbeat', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return tostring(epoch)
