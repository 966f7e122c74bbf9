// Package top says what functions, pods and programs do per second, from two readings of the loader's metrics.
package top
