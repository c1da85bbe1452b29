-- Checks, then writes: all of it or nothing, under the epoch of the run's driver.
-- KEYS: the hashes of the run, of its steps, of one step's segments, of that step's rows that are set aside.
-- ARGV: epoch, token; then four words for each thing: what, which key (1 to 4), field, value.
local kept = redis.call('HGET', KEYS[1], 'epoch')
if not kept then return 'gone' end
local epoch, newest = tonumber(ARGV[1]), tonumber(kept)
if newest > epoch then return 'fenced' end
if newest == epoch and redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 'fenced' end
for i = 3, #ARGV, 4 do
  local what, key, field, value = ARGV[i], KEYS[tonumber(ARGV[i + 1])], ARGV[i + 2], ARGV[i + 3]
  if what == 'mark' then
    local found = redis.call('HGET', key, field)
    if not found then return 'moved' end
    if string.sub(found, 1, #value + 1) ~= value .. '\n' then return 'moved' end
  elseif what == 'not' then
    if redis.call('HGET', key, field) == value then return 'already' end
  elseif what == 'new' then
    if redis.call('HEXISTS', key, field) == 1 then return 'already' end
  end
end
-- Redis has lost its last seconds, and with them that this driver had taken the run over.
if newest < epoch then redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'token', ARGV[2]) end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for i = 3, #ARGV, 4 do
  local what, key, field, value = ARGV[i], KEYS[tonumber(ARGV[i + 1])], ARGV[i + 2], ARGV[i + 3]
  if what == 'set' then
    redis.call('HSET', key, field, value)
  elseif what == 'first' then
    redis.call('HSETNX', key, field, value == '' and now or value)
  elseif what == 'now' then
    redis.call('HSET', key, field, now)
  elseif what == 'drop' then
    redis.call('HDEL', key, field)
  elseif what == 'most' then
    local had = tonumber(redis.call('HGET', key, field) or '0')
    if tonumber(value) > had then redis.call('HSET', key, field, value) end
  end
end
return 'ok'
