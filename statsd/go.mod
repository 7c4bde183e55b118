module github.com/dewarcache/dewar/statsd

go 1.26.0

replace github.com/dewarcache/dewar => ../

require (
	github.com/DataDog/datadog-go/v5 v5.9.1
	github.com/dewarcache/dewar v0.0.0-00010101000000-000000000000
)

require (
	github.com/Microsoft/go-winio v0.5.0 // indirect
	github.com/sony/gobreaker/v2 v2.4.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)
