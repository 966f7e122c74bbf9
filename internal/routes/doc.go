// Package routes owns what the programs know of topics and functions: the automaton
// that the routes' filters are compiled into, the routes themselves, and for each
// function its request prefix and its pods. Routes change all or nothing: a new
// set is staged where no message sees it, and one store switches to it. A
// function's pods change one by one in the set that is in use, which touches
// nothing else. It may touch the maps that hold these, and of the settings the roots and the epoch. Which counters and which pods those are is the caller's business.
package routes
