-- Forget consumers of processes that have ended and left nothing. KEYS[1]: the stream; ARGV: group, for how many milliseconds they are silent.
local stream, group, silent_for = KEYS[1], ARGV[1], tonumber(ARGV[2])
local forgotten = 0
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local known = {}
  for i = 1, #facts, 2 do
    known[facts[i]] = facts[i + 1]
  end
  if known['pending'] == 0 and known['idle'] >= silent_for then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, known['name'])
    forgotten = forgotten + 1
  end
end
return forgotten
