#!/usr/bin/env bash
# Runs kernelscope's checks on an emulated Arm machine (QEMU's whole system, Debian's kernel): the op suite on the cpu, and the main command.
# Usage: tools/check-arm.sh [FOLDER]      default: artifacts/arm; what is downloaded and built stays there, 700 MB
# Needs Debian packages: qemu-system-arm, cpio, dpkg-dev's dpkg-deb, and arm64 as a foreign architecture (dpkg --add-architecture arm64; apt-get update).
# QEMU's user mode (qemu-aarch64) does not serve: a program that only clones arrays, without a line of unsafe code, ends there with SIGSEGV while the .NET runtime's
# background collection runs (8 of 8 runs with QEMU 7.2 and .NET 10; none with DOTNET_gcConcurrent=0, and none in the whole system).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-artifacts/arm}")
mkdir -p "$out/debs" "$out/boot" "$out/root/bin"

dotnet publish src/KernelScope.Cli -c Release -r linux-arm64 --self-contained -p:PackAsTool=false -o "$out/root/app" --nologo
kernel=$(apt-cache depends linux-image-arm64:arm64 | awk '/Depends:/ { print $2; exit }')
(cd "$out/debs" && apt-get download -q libc6:arm64 libstdc++6:arm64 libgcc-s1:arm64 zlib1g:arm64 libssl3:arm64 busybox-static:arm64 "$kernel")
for deb in "$out"/debs/*.deb; do
    case $deb in
        */linux-image-*) dpkg-deb -x "$deb" "$out/boot" ;;
        *) dpkg-deb -x "$deb" "$out/root" ;;
    esac
done

cat > "$out/root/init" <<'INIT'
#!/bin/busybox sh
for d in proc sys dev tmp; do /bin/busybox mkdir -p /$d; done
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
export HOME=/tmp
failed=0
check() { "$@" || { failed=$((failed + 1)); echo "FAILED: $*"; }; }
check /app/kernelscope features "And the king said, Let there be light."
for threads in 1 2; do
    for op in RopeThenStore SaeEncode; do check /app/kernelscope verify --device cpu --threads $threads --op $op; done
done
check /app/kernelscope verify --device cpu --threads 2
echo "$failed checks failed on Arm"
/bin/busybox poweroff -f
INIT
chmod +x "$out/root/init"
(cd "$out/root" && find . | cpio -o -H newc --quiet | gzip -1) > "$out/initrd.gz"

qemu-system-aarch64 -M virt -cpu max,pauth-impdef=on -smp 2 -m 4096 -nographic -no-reboot -kernel "$out"/boot/boot/vmlinuz-* -initrd "$out/initrd.gz" \
    -append "console=ttyAMA0 panic=-1 quiet" 2>&1 | tee "$out/log.txt"
grep -q "^0 checks failed on Arm" "$out/log.txt"
