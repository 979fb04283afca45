#!/usr/bin/env bash
# git.sh -- git: commits of many files, branches, merge, gc with threads, log, fsck, clone; the same history.
. "$(dirname "$0")/common.inc"
need git
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a
export GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
cat >work.sh <<'END'
set -e
git init -q -b main repo; cd repo
for d in 1 2 3 4 5 6 7 8; do
    mkdir -p d$d
    awk -v d=$d 'BEGIN {
        for (f = 1; f <= 60; f++)
            for (i = d; i <= d * f + 200; i++)
                print i >("d" d "/f" f)
    }'
    git add -A; git commit -q -m "commit $d"
done
git checkout -q -b side HEAD~3; seq 1 5000 >side; git add side; git commit -q -m side
git checkout -q main; git merge -q -m merge side
git -c pack.threads=2 gc -q --aggressive --prune=now
git fsck --full --strict 2>&1
git log --stat --format='%H %T %s'
git diff HEAD~4 --stat; git blame d1/f1 | cut -c1-20; git rev-list --objects --all | sha256sum
git clone -q . ../clone; git -C ../clone status --short; git grep -c 99 | sha256sum
git archive HEAD | sha256sum
cd ..; rm -rf repo clone
END
preload_works git --version
same "git" bash work.sh
