-- Only look around: a store that was restarted begins its generation now.
return answer('begun')
