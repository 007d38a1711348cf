# How often a prediction is right, and what is taken for what.
BEGIN { FS = "," }
FNR == 1 { next }
{
    if (!($1 in rows)) order[++species] = $1
    rows[$1]++
    taken[$1, $2]++
    right += $1 == $2
    total++
}
END {
    for (a = 1; a <= species; a++) for (b = a + 1; b <= species; b++)
        if (order[b] < order[a]) { swap = order[a]; order[a] = order[b]; order[b] = swap }
    printf "%-12s", "is \\ said"
    for (b = 1; b <= species; b++) printf "%12s", order[b]
    print ""
    for (a = 1; a <= species; a++) {
        printf "%-12s", order[a]
        for (b = 1; b <= species; b++) printf "%12d", taken[order[a], order[b]]
        print ""
    }
    printf "right: %d of %d (%.1f %%)\n", right, total, 100 * right / total
}
