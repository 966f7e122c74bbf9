// Package trace shows what becomes of single messages, on every path, to who asks; one at a time. While nobody does it
// costs a look at one word. How much is shown is bounded: what does not fit is counted.
package trace
