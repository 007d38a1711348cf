# The mean of each column by species: one row a species, in the columns of the input.
BEGIN { FS = OFS = "," }
NR == 1 { print; next }
{
    if (!($NF in count)) order[++species] = $NF
    count[$NF]++
    for (i = 1; i < NF; i++) sum[$NF, i] += $i
    columns = NF
}
END {
    # By name, so that the order of the rows does not show.
    for (a = 1; a <= species; a++) for (b = a + 1; b <= species; b++)
        if (order[b] < order[a]) { swap = order[a]; order[a] = order[b]; order[b] = swap }
    for (a = 1; a <= species; a++) {
        line = ""
        for (i = 1; i < columns; i++) line = line sprintf("%.3f", sum[order[a], i] / count[order[a]]) OFS
        print line order[a]
    }
}
