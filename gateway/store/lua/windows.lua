-- Read where a tenant's budgets stand.   KEYS 1 tenant 2 active 3 budget   Reply standing
return standing(KEYS[1], KEYS[3], KEYS[2], windows_at(now_us()))
