using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace KernelScope.Cli;

/// <summary>
/// Runs every op of the suite in a process of its own: one that dies, hangs or prints nothing of use is one red line, and the others go on.
/// </summary>
/// <param name="arguments">The program's arguments for an op.</param>
/// <param name="timeout">How long a process may take.</param>
internal sealed class OpProcesses(Func<string, IReadOnlyList<string>> arguments, TimeSpan timeout)
{
    /// <summary>Runs ops, some at a time, and gives their checks in order.</summary>
    public IReadOnlyList<CheckRow> Run(IReadOnlyList<string> ops, int jobs, Progress progress, CancellationToken cancellation)
    {
        var rows = new ConcurrentDictionary<string, CheckRow>(StringComparer.Ordinal);
        Parallel.ForEach(ops, new ParallelOptions { MaxDegreeOfParallelism = jobs, CancellationToken = cancellation }, op =>
        {
            rows[op] = Run(op, cancellation);
            progress.Report(rows.Count / (double)ops.Count);
        });
        return [.. ops.Select(op => rows[op])];
    }

    private CheckRow Run(string op, CancellationToken cancellation)
    {
        long began = Stopwatch.GetTimestamp();
        using Process process = Process.Start(Self(arguments(op))) ?? throw new WorkException("the program does not start itself.");
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None),
            error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(timeout);
        try
        {
            process.WaitForExitAsync(limit.Token).GetAwaiter().GetResult();
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            cancellation.ThrowIfCancellationRequested();
            return OpSuite.Dead(op, string.Create(CultureInfo.InvariantCulture, $"timeout after {timeout.TotalSeconds:0} s"));
        }

        return (RowOf(op, output.Result) ?? OpSuite.Dead(op, $"exit {process.ExitCode}: {LastLine(error.Result)}")) with
        {
            Seconds =
            Math.Round(Stopwatch.GetElapsedTime(began).TotalSeconds, 3)
        };
    }

    /// <summary>This program once more, whether it is a file of its own or run by dotnet.</summary>
    private static ProcessStartInfo Self(IReadOnlyList<string> arguments)
    {
        string program = Environment.ProcessPath ?? throw new WorkException("the program does not know where it lies, so it cannot " +
            "start itself; give --in-process.");
        string assembly = Path.Combine(AppContext.BaseDirectory, "kernelscope.dll");
        bool hosted = Path.GetFileNameWithoutExtension(program) == "dotnet";
        return new ProcessStartInfo(program, hosted ? ["exec", assembly, .. arguments] : arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        };
    }

    private static CheckRow? RowOf(string op, string json)
    {
        try
        {
            return JsonOutput.Parse<VerifyResult>(json)?.Checks.FirstOrDefault(c => c.Name == OpSuite.Prefix + op);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static string LastLine(string text) => text.Split('\n',
        StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) is [.., string last] ? last : "it said nothing";
}
