#!/usr/bin/env bash
# openssl.sh -- openssl: digests, encryption, keys made and checked, signatures verified, a certificate.
. "$(dirname "$0")/common.inc"
need openssl
seq 1 400000 >data
preload_works openssl version
for digest in sha256 sha512 sha3-256 blake2b512 md5; do
    same "$digest" openssl dgst -"$digest" data
done
for cipher in aes-256-cbc aes-128-ctr chacha20 camellia-256-cbc; do
    same "$cipher" openssl enc -"$cipher" -pbkdf2 -nosalt -pass pass:secret -in data
    mv under.out data.enc
    under openssl enc -d -"$cipher" -pbkdf2 -nosalt -pass pass:secret -in data.enc -out data.dec || fail "$cipher -d"
    same_file "$cipher round trip" data.dec data
done
under openssl genrsa -out key.pem 2048 2>/dev/null || fail "genrsa"
same "rsa -check" openssl rsa -in key.pem -check -noout
under openssl req -x509 -new -key key.pem -subj /CN=sanity -days 2 -out cert.pem || fail "req"
same "x509" openssl x509 -in cert.pem -noout -text
same "verify" openssl verify -CAfile cert.pem cert.pem
same "rsa signature" openssl dgst -sha256 -sign key.pem -hex data
under openssl ecparam -name prime256v1 -genkey -noout -out ec.pem || fail "ecparam"
under openssl dgst -sha256 -sign ec.pem -out data.sig data || fail "sign"
under openssl ec -in ec.pem -pubout -out ec.pub 2>/dev/null || fail "ec"
same "ec signature" openssl dgst -sha256 -verify ec.pub -signature data.sig data
