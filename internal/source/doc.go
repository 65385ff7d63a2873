// Package source turns source definitions into requests and answers into records.
package source
