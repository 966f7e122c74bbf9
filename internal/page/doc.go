// Package page is the page to look at: what passes from devices by routes and functions to pods, now and in the last 15
// minutes, made of the process's own metrics. It is one HTML file, kept up to date by server-sent events; it changes nothing.
package page
