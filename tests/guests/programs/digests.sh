#!/bin/sh
# What openssl makes of a file that is the same everywhere: run on the host and in the guest, the same text.
set -e
i=0
: > data
while [ $i -lt 2000 ]; do
    i=$((i + 1))
    echo "line $i of a file whose digests are known" >> data
done
for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 shake256 blake2b512 blake2s256 ripemd160 sm3; do
    openssl dgst -$digest data
done
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
iv=f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
for cipher in aes-128-cbc aes-192-cbc aes-256-cbc aes-128-ctr aes-256-ctr aes-256-ecb aes-128-cfb aes-256-ofb aria-128-cbc camellia-256-cbc \
    des-ede3-cbc chacha20; do
    case $cipher in
        *128*) bytes=32 ;;
        *192*|des*) bytes=48 ;;
        *) bytes=64 ;;
    esac
    case $cipher in
        *ecb) vector= ;;
        des*) vector="-iv f0f1f2f3f4f5f6f7" ;;
        *) vector="-iv $iv" ;;
    esac
    openssl enc -$cipher -K "$(echo $key | cut -c1-$bytes)" $vector -in data -out data.enc
    openssl enc -d -$cipher -K "$(echo $key | cut -c1-$bytes)" $vector -in data.enc | cmp - data
    echo "$cipher $(openssl dgst -sha256 -r data.enc)"
done
openssl dgst -sha256 -hmac secret data
openssl mac -cipher AES-256-CBC -macopt hexkey:$key -in data CMAC
openssl mac -macopt hexkey:$key -in data Poly1305
openssl mac -digest SHA512 -macopt hexkey:$key -in data HMAC
openssl mac -cipher AES-256-GCM -macopt hexkey:$key -macopt hexiv:$iv -in data GMAC
openssl prime 170141183460469231731687303715884105727
openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt pass:password -kdfopt salt:salt -kdfopt iter:1000 PBKDF2
openssl kdf -keylen 32 -kdfopt pass:password -kdfopt salt:salt -kdfopt n:1024 -kdfopt r:8 -kdfopt p:1 SCRYPT
