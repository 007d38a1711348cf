# Guesses each flower of the second file from the `k` nearest ones of the first, and prints how often that is right, as JSON.
function distance(a, b,    c, sum, d) {
    split(a, left, ",")
    split(b, right, ",")
    for (c = 1; c < columns; c++) {
        d = left[c] - right[c]
        sum += metric == "manhattan" ? (d < 0 ? -d : d) : d * d
    }
    return sum
}

BEGIN { FS = "," }
FNR == 1 { file++; columns = NF; next }
file == 1 { known[++n] = $0; species[n] = $NF; next }
{
    for (i = 1; i <= n; i++) { far[i] = distance(known[i], $0); used[i] = 0 }
    split("", votes)
    best = ""
    for (round = 1; round <= k && round <= n; round++) {
        nearest = 0
        for (i = 1; i <= n; i++) if (!used[i] && (!nearest || far[i] < far[nearest])) nearest = i
        used[nearest] = 1
        # On a tie the one that was ahead first stays ahead.
        if (++votes[species[nearest]] > votes[best] + 0 || best == "") best = species[nearest]
    }
    total++
    hits += best == $NF
}
END {
    printf "{\"neighbours\": %d, \"metric\": \"%s\", \"right\": %d, \"of\": %d, \"accuracy\": %.4f}\n", k, metric, hits, total, hits / total
}
