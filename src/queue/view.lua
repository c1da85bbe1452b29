-- What a queue holds, at one moment. Reads, and changes nothing.
-- KEYS[1] what the queue's keys begin with, up to the last colon
-- ARGV[1] most jobs of each state that are told; ARGV[2] the one state that is wanted, or empty;
-- ARGV[3] most jobs of each state that are looked through for what they wait for
-- Answer: paused (0 or 1); counts: waiting, active, delayed, blocked, failed, completed; jobs, each
--   state, id, score, name, by, after, opts, progress, atm, timestamp, processedOn, finishedOn, failedReason,
--   returnvalue, pb, priority, defa
local at, most, only, scan = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local call = redis.call

-- Who asked for a job, and which job it waits for. Plans are long: only where the word stands in it, it is read whole.
local function asked(id)
  local data = call('HGET', at .. id, 'data')
  if not data then return false, false end
  if not (string.find(data, '"by"', 1, true) or string.find(data, '"after"', 1, true)) then return false, false end
  local ok, read = pcall(cjson.decode, data)
  if not ok or type(read) ~= 'table' then return false, false end
  local by, after = read.by, read.after
  return type(by) == 'string' and by or false, type(after) == 'string' and after or false
end

local function is_blocked(id)
  local data = call('HGET', at .. id, 'data')
  if not data or not string.find(data, '"after"', 1, true) then return false end
  local _, after = asked(id)
  return after and not call('ZSCORE', at .. 'completed', after)
end

local jobs, told = {}, {}
local function tell(state, id, score)
  if only ~= '' and only ~= state then return end
  local so_far = told[state] or 0
  if so_far >= most then return end
  told[state] = so_far + 1
  local by, after = asked(id)
  local f = call('HMGET', at .. id, 'name', 'opts', 'progress', 'atm', 'timestamp', 'processedOn', 'finishedOn',
    'failedReason', 'returnvalue', 'pb', 'priority', 'defa')
  jobs[#jobs + 1] = { state, id, score or false, f[1], by, after, f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9],
    f[10], f[11], f[12] }
end

for _, id in ipairs(call('LRANGE', at .. 'active', 0, most - 1)) do tell('active', id) end

local blocked = {}
local blocked_waiting, blocked_delayed = 0, 0
local function wait_in_line(id)
  if string.sub(id, 1, 2) == '0:' then return end
  if is_blocked(id) then
    blocked_waiting = blocked_waiting + 1
    blocked[#blocked + 1] = { id, false }
  else
    tell('waiting', id)
  end
end
for _, list in ipairs({ 'wait', 'paused' }) do
  local ids = call('LRANGE', at .. list, -scan, -1)
  for i = #ids, 1, -1 do wait_in_line(ids[i]) end
end
for _, id in ipairs(call('ZRANGE', at .. 'prioritized', 0, scan - 1)) do wait_in_line(id) end

local delayed = call('ZRANGE', at .. 'delayed', 0, scan - 1, 'WITHSCORES')
for i = 1, #delayed, 2 do
  if is_blocked(delayed[i]) then
    blocked_delayed = blocked_delayed + 1
    blocked[#blocked + 1] = { delayed[i], delayed[i + 1] }
  else
    tell('delayed', delayed[i], delayed[i + 1])
  end
end
for _, entry in ipairs(blocked) do tell('blocked', entry[1], entry[2]) end
for _, id in ipairs(call('ZRANGE', at .. 'waiting-children', 0, most - 1)) do tell('blocked', id) end
for _, state in ipairs({ 'failed', 'completed' }) do
  for _, id in ipairs(call('ZREVRANGE', at .. state, 0, most - 1)) do tell(state, id) end
end

local waiting = call('LLEN', at .. 'wait') + call('LLEN', at .. 'paused') + call('ZCARD', at .. 'prioritized')
local counts = {
  waiting - blocked_waiting,
  call('LLEN', at .. 'active'),
  call('ZCARD', at .. 'delayed') - blocked_delayed,
  blocked_waiting + blocked_delayed + call('ZCARD', at .. 'waiting-children'),
  call('ZCARD', at .. 'failed'),
  call('ZCARD', at .. 'completed'),
}
return { call('HEXISTS', at .. 'meta', 'paused'), counts, jobs }
