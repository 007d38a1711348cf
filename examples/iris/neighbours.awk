# For each flower of the second file, what most of its `k` nearest flowers of the first file are. Prints truth,prediction.
BEGIN { FS = OFS = ","; print "truth", "prediction" }
FNR == 1 { file++; next }
file == 1 { known[++n] = $0; next }
{
    for (i = 1; i <= n; i++) {
        split(known[i], flower, ",")
        distance[i] = 0
        for (c = 1; c < NF; c++) distance[i] += (flower[c] - $c) ^ 2
        name[i] = flower[NF]
        used[i] = 0
    }
    split("", votes)
    best = ""
    for (round = 1; round <= k && round <= n; round++) {
        nearest = 0
        for (i = 1; i <= n; i++) if (!used[i] && (!nearest || distance[i] < distance[nearest])) nearest = i
        used[nearest] = 1
        # On a tie the one that was nearer first stays ahead.
        if (++votes[name[nearest]] > votes[best] + 0 || best == "") best = name[nearest]
    }
    print $NF, best
}
