package config

import "slices"

// Nearest returns the word of known that is fewest changes of one letter away
// from word (Levenshtein's distance), the first in order of spelling when
// several are; empty when even that one shares too little with word to be meant.
func Nearest(word string, known []string) string {
	best, least := "", max(2, len(word)/2)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of one byte that
// make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
