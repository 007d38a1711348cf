# Reads scores, one a line: the mean of each classifier to `to`/table.csv, the best one to `to`/best.json; of equals the first.
function value(name,    at, rest) {
    at = index($0, "\"" name "\": ")
    rest = substr($0, at + length(name) + 4)
    sub(/[,}].*/, "", rest)
    gsub(/"/, "", rest)
    return rest
}
{
    key = value("neighbours") "," value("metric")
    if (!(key in count)) order[++classifiers] = key
    count[key]++
    sum[key] += value("accuracy")
}
END {
    print "neighbours,metric,accuracy" > (to "/table.csv")
    for (i = 1; i <= classifiers; i++) {
        mean = sum[order[i]] / count[order[i]]
        printf "%s,%.4f\n", order[i], mean > (to "/table.csv")
        if (i == 1 || mean > most) { most = mean; best = order[i] }
    }
    split(best, part, ",")
    printf "{\"neighbours\": %d, \"metric\": \"%s\", \"accuracy\": %.4f}\n", part[1], part[2], most > (to "/best.json")
}
