using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;

namespace KernelScope.Cli;

/// <summary>
/// The native file for processors with AVX-512, which lies beside the ordinary one. A native file is compiled for one instruction set: .NET 10 chooses up to AVX2 at run time and no further
/// (measured: with AVX2 as the base, <c>Avx512F.IsSupported</c> is false on a processor that has it), and prefill is half as fast without.
/// </summary>
internal static unsafe partial class Avx512File
{
    /// <summary>What its name adds.</summary>
    private const string Suffix = "-avx512";

    /// <summary>What x86-64-v4 means; the kernel lists only what it lets programs use.</summary>
    private static readonly string[] Needed = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

    /// <summary>Becomes that file's process, with the same arguments, where there is one and the processor runs it; else returns, and this file does the work.</summary>
    public static void RunIfBetter()
    {
        if (RuntimeFeature.IsDynamicCodeSupported || !OperatingSystem.IsLinux()
            || RuntimeInformation.ProcessArchitecture != Architecture.X64 || Avx512F.IsSupported)
            return;
        string path = Environment.ProcessPath + Suffix;
        if (!File.Exists(path) || !Needed.All(Flags().Contains))
            return;
        // The arguments as bytes: they need not be UTF-8.
        byte[] arguments = File.ReadAllBytes("/proc/self/cmdline");
        var starts = new List<int> { 0 };
        for (int i = 0; i + 1 < arguments.Length; i++)
        {
            if (arguments[i] == 0)
                starts.Add(i + 1);
        }

        fixed (byte* first = arguments, file = Encoding.UTF8.GetBytes(path + '\0'))
        {
            byte** argv = stackalloc byte*[starts.Count + 1];
            for (int i = 0; i < starts.Count; i++)
                argv[i] = first + starts[i];
            argv[starts.Count] = null;
            // Returns only if it fails, and then this file will do.
            _ = Execute(file, argv);
        }
    }

    /// <summary>The first processor's flags; a machine with many would take milliseconds to list them all.</summary>
    private static string[] Flags()
    {
        Span<byte> start = stackalloc byte[8192];
        using FileStream stream = new("/proc/cpuinfo", FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        string text = Encoding.ASCII.GetString(start[..stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false)]);
        string? line = Array.Find(text.Split('\n'), l => l.StartsWith("flags", StringComparison.Ordinal));
        return line?.Split(' ') ?? [];
    }

    [LibraryImport("libc", EntryPoint = "execv")]
    private static partial int Execute(byte* path, byte** arguments);
}
