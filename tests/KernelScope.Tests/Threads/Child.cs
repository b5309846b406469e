using System.Diagnostics;
using System.Runtime.InteropServices;

namespace KernelScope.Tests.Threads;

/// <summary>The test assembly in a process of its own: what may die or hang must not take the other tests with it.</summary>
internal static class Child
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);

    /// <summary>Runs it and demands that it ends well and says nothing.</summary>
    public static async Task MustPass(params string[] args)
    {
        string host =
            Path.GetFullPath(
                Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", OperatingSystem.IsWindows() ? "dotnet.exe"
                    : "dotnet"));
        using Process child =
            Process.Start(
                new ProcessStartInfo(host, [typeof(Cpu.Program).Assembly.Location, .. args])
                {
                    RedirectStandardOutput = true,
                    RedirectStandardError = true
                })!;
        Task<string> output = child.StandardOutput.ReadToEndAsync(), errors = child.StandardError.ReadToEndAsync();
        using var patience = new CancellationTokenSource(Patience);
        try
        {
            await child.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            child.Kill(entireProcessTree: true);
            Assert.Fail($"{string.Join(' ', args)} did not end in {Patience}. {await output}{await errors}");
        }

        Assert.True(child.ExitCode == 0, $"{string.Join(' ', args)} ended with {child.ExitCode}. {await output}{await errors}");
        Assert.Equal("", await output);
    }
}
