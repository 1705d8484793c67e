#!/bin/sh
# stress-ng's stressors that check their own results, a few rounds of each. A word a line: the name and how many rounds.
run() {
    name=$1
    rounds=$2
    shift 2
    if stress-ng --quiet --verify --timeout 600 --$name 1 --$name-ops $rounds "$@" > out 2>&1; then
        echo "$name: passed"
    else
        echo "$name: failed"
        cat out
    fi
}
run cpu 170 --cpu-method all
run vecmath 40
run vecwide 40
run vecfp 40
run vecshuf 20
run fp 20
run matrix 40 --matrix-method all
run matrix-3d 4 --matrix-3d-method all --matrix-3d-size 32
run memcpy 40
run stream 2 --stream-l3-size 256K
run str 200
run wcs 200
run hash 20
run crypt 4
run zlib 4
run qsort 1 --qsort-size 32768
run heapsort 1 --heapsort-size 32768
run mergesort 1 --mergesort-size 32768
run radixsort 1 --radixsort-size 32768
run tsearch 1 --tsearch-size 16384
run bsearch 1 --bsearch-size 16384
run hsearch 1
run lsearch 1 --lsearch-size 1024
run skiplist 1
run tree 1 --tree-size 16384
run branch 1000
run funccall 20
run goto 20
run icache 20
run nop 20
run atomic 20
run longjmp 2000
run context 100
run randlist 1
run vm 40 --vm-bytes 8M --vm-method all
run memthrash 20 --memthrash-method all
run sigfpe 100
run sigsegv 100
run sigtrap 100
run judy 1
run set 1
run sparsematrix 1 --sparsematrix-size 100 --sparsematrix-items 500
