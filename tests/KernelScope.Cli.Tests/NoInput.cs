using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KernelScope.Cli.Tests;

/// <summary>The test process has /dev/null on standard input: what runs in it must not read what the test runner has there.</summary>
internal static partial class NoInput
{
    private const int ReadOnly = 0, StandardInput = 0;

    [ModuleInitializer]
    internal static void Open()
    {
        if (OperatingSystem.IsWindows())
            return;
        int nothing = OpenFile("/dev/null", ReadOnly);
        _ = Duplicate(nothing, StandardInput);
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFile(string path, int flags);

    [LibraryImport("libc", EntryPoint = "dup2")]
    private static partial int Duplicate(int from, int to);
}
