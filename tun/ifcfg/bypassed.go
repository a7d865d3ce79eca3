package ifcfg

// Bypassed names what is made to see packets on their way from the egress of one link to
// another, and does not see those that a tcx program at the egress of the first hands to
// the second: the queueing disciplines that somebody gave the first link, with their
// filters, and netfilter's egress hook of the second. Other tcx programs are not looked
// for. Ingress tells its conventions.
func Bypassed(from, to int) (seen []string, err error) { return bypassed(from, to) }
