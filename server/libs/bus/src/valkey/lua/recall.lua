-- Tell what the zone owns: zone, lease.
local zone, lease = ARGV[FIRST], ARGV[FIRST + 1]
local refusal = not_current(lease) or not_newest(zone, lease)
if refusal then
  return refusal
end
if is_settling() then
  return answer('settling')
end
return answer('recalled', raise(zone))
