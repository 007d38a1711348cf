# Shuffles the rows by `seed`. A fifth goes to `to`/unseen.csv, the rest to `to`/all.csv; of the rest, the n-th part is the
# test of fold n, and the others train it: `to`/folds/<n>/test.csv and train.csv.
# The generator is Lehmer's (16807, 2^31 - 1), so that every awk gives the same rows.
function random(below) { state = (state * 16807) % 2147483647; return state % below }

NR == 1 { header = $0; next }
{ row[NR - 1] = $0; rows = NR - 1 }

END {
    state = seed * 2 + 1
    for (i = 0; i < 10; i++) random(1)
    for (i = rows; i > 1; i--) { j = random(i) + 1; swap = row[i]; row[i] = row[j]; row[j] = swap }
    unseen = int(rows / 5)
    print header > (to "/unseen.csv")
    print header > (to "/all.csv")
    for (i = 1; i <= rows; i++) print row[i] > (to (i <= unseen ? "/unseen.csv" : "/all.csv"))
    for (n = 1; n <= folds; n++) {
        folder = to "/folds/" n
        system("mkdir -p '" folder "'")
        print header > (folder "/train.csv")
        print header > (folder "/test.csv")
        for (i = unseen + 1; i <= rows; i++) print row[i] > (folder (i % folds == n - 1 ? "/test.csv" : "/train.csv"))
        close(folder "/train.csv")
        close(folder "/test.csv")
    }
}
