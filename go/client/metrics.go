package client

// MetricsContentType is the content type of what [Client.Metrics] returns.
const MetricsContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
