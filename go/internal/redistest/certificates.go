package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityFile = "ca.crt"
	serverFile    = "server.crt"
	serverKeyFile = "server.key"
	clientFile    = "client.crt"
	clientKeyFile = "client.key"

	// certificateLifetime is longer than what a server warns of.
	certificateLifetime = 90 * 24 * time.Hour
	// clockSlack keeps a certificate valid on a machine whose clock steps back a little.
	clockSlack = time.Hour
)

// certificates is a throw-away authority with one server and one client
// certificate, in memory and as PEM files.
type certificates struct {
	dir       string
	authority *x509.CertPool
	client    tls.Certificate
}

func newCertificates(dir string) (*certificates, error) {
	c := &certificates{dir: dir, authority: x509.NewCertPool()}

	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template(1, "redistest authority")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	c.authority.AppendCertsFromPEM(caPEM)
	if err := os.WriteFile(c.path(authorityFile), caPEM, 0o600); err != nil {
		return nil, err
	}

	server := template(2, "redistest server")
	server.IPAddresses = []net.IP{net.ParseIP(host)}
	server.DNSNames = []string{"localhost"}
	if _, err := c.issue(server, ca, caKey, serverFile, serverKeyFile); err != nil {
		return nil, err
	}
	c.client, err = c.issue(template(3, "redistest client"), ca, caKey, clientFile, clientKeyFile)
	return c, err
}

func template(serial int64, name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.Add(certificateLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// issue signs a certificate for a new key and writes both as PEM files.
func (c *certificates) issue(cert, ca *x509.Certificate, caKey *ecdsa.PrivateKey, certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	certDER, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	if err := os.WriteFile(c.path(certFile), certPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.WriteFile(c.path(keyFile), keyPEM, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

func (c *certificates) path(file string) string { return filepath.Join(c.dir, file) }

func (c *certificates) clientConfig() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      c.authority,
		Certificates: []tls.Certificate{c.client},
	}
}

func (c *certificates) serverArguments(requireClientCertificate bool) []string {
	clients := "optional"
	if requireClientCertificate {
		clients = "yes"
	}
	return []string{
		"--tls-ca-cert-file", c.path(authorityFile),
		"--tls-cert-file", c.path(serverFile),
		"--tls-key-file", c.path(serverKeyFile),
		"--tls-auth-clients", clients,
	}
}
