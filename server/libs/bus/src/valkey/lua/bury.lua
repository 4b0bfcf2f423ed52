-- Put an entry that cannot be read aside, once, however many see it. KEYS: its stream, the dead letters, for an inbox also what waits in it.
-- ARGV: the entry, the group that reads it or nothing, the reason, the beginning of its bytes, dead letters kept.
local stream, dead, waiting = KEYS[1], KEYS[2], KEYS[3]
local entry, group = ARGV[1], ARGV[2]
if waiting then
  local all = redis.call('HGETALL', waiting)
  for i = 1, #all, 2 do
    if all[i + 1] == entry then
      redis.call('HDEL', waiting, all[i])
    end
  end
end
if group ~= '' then
  redis.call('XACK', stream, group, entry)
end
if redis.call('XDEL', stream, entry) == 0 then
  return 0
end
redis.call('XADD', dead, 'MAXLEN', '~', ARGV[5], '*', 'stream', stream, 'entry', entry, 'reason', ARGV[3], 'bytes', ARGV[4])
return 1
