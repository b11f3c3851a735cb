# kubectl 1.20, Debian's: usr/bin/kubectl.
apt-get download kubernetes-client
dpkg -x kubernetes-client_*.deb .
rm kubernetes-client_*.deb
usr/bin/kubectl version --client --short
