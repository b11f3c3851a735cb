# prometheus and promtool, Debian's: usr/bin/prometheus, usr/bin/promtool.
apt-get download prometheus
dpkg -x prometheus_*.deb .
rm prometheus_*.deb
usr/bin/promtool --version
