def attack(seed, n): return 0, []
