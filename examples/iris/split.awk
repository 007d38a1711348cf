# Shuffles the rows by `seed` and divides them: `share` of them to `to`/test.csv, the rest to `to`/train.csv.
# The generator is Lehmer's (16807, 2^31 - 1), so that every awk gives the same rows.
function random(below) { state = (state * 16807) % 2147483647; return state % below }

NR == 1 { header = $0; next }
{ row[NR - 1] = $0; rows = NR - 1 }

END {
    state = seed * 2 + 1
    for (i = 0; i < 10; i++) random(1)
    for (i = rows; i > 1; i--) { j = random(i) + 1; swap = row[i]; row[i] = row[j]; row[j] = swap }
    print header > (to "/train.csv")
    print header > (to "/test.csv")
    for (i = 1; i <= rows; i++) print row[i] > (to (i <= rows * share ? "/test.csv" : "/train.csv"))
}
