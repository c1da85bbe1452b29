-- Ends a run for good, whoever drives it: its epoch is gone. Returns 'ok', or 'gone'.
-- KEYS: the hash of the run.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state == 'done' then return 'ok' end
local time = redis.call('TIME')
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'state', 'superseded', 'token', '')
redis.call('HSETNX', KEYS[1], 'finished_at', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 'ok'
