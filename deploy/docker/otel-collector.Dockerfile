# The Collector's image holds nothing but its program; whoever asks whether it is well needs one more.
FROM otel/opentelemetry-collector-contrib:0.140.1 AS collector

FROM busybox:1.36.1-musl
COPY --from=collector /otelcol-contrib /otelcol-contrib
COPY --from=collector /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 10001:10001
ENTRYPOINT ["/otelcol-contrib"]
CMD ["--config", "/etc/otelcol/config.yaml"]
