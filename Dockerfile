# Three static programs and nothing else. `cargo drill --image` builds them, lays them out as below and runs
# `docker build -t tandem:local -f Dockerfile target/static/image`; by hand:
#   RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu \
#     -p tandem-node -p tandem-ctl -p tandem-tests --bins
FROM scratch
COPY tandemd tandemctl drill /bin/
COPY etc /etc/tandem
ENV PATH=/bin
CMD ["tandemd", "--help"]
