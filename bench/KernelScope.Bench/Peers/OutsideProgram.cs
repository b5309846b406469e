using System.ComponentModel;
using System.Diagnostics;

namespace KernelScope.Bench.Peers;

/// <summary>Another program did not do what was asked of it; the message is one sentence.</summary>
internal sealed class OutsideProgramException(string message) : Exception(message);

/// <summary>A program that is run to its end.</summary>
internal static class OutsideProgram
{
    private const int Quoted = 200;

    // Ctrl+C reaches the program as well: it may be gone before we are told.
    private const int SignalMilliseconds = 200;

    /// <summary>Runs it and gives what it printed.</summary>
    /// <exception cref="OutsideProgramException">It cannot be run, or failed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; it was ended.</exception>
    public static (string Output, string Error) Run(string path, IEnumerable<string> arguments, CancellationToken cancellation)
    {
        using Process process = Start(path, arguments);
        process.StandardInput.Close();
        // Both at once: a program that fills one pipe while nobody reads it stands still.
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None),
            error = process.StandardError.ReadToEndAsync(CancellationToken.None);
        using (cancellation.Register(() => End(process)))
            process.WaitForExit();
        if (process.ExitCode != 0)
            cancellation.WaitHandle.WaitOne(SignalMilliseconds);
        cancellation.ThrowIfCancellationRequested();
        if (process.ExitCode != 0)
            throw new OutsideProgramException(
                $"{path} failed with exit code {process.ExitCode}{Behind(LastLine(error.Result) ?? LastLine(output.Result))}");
        return (output.Result, error.Result);
    }

    /// <summary>Says that a file that another program needs is not there.</summary>
    public static void Require(string? path, string option)
    {
        if (path is not null && !File.Exists(path))
            throw new OutsideProgramException($"{option}: there is no file {path}.");
    }

    /// <summary>The beginning of a text on one line, for a message.</summary>
    public static string Quote(string text)
    {
        string line = text.Trim().ReplaceLineEndings(" ");
        return line.Length == 0 ? "nothing" : $"'{(line.Length > Quoted ? line[..Quoted] + "…" : line)}'";
    }

    private static Process Start(string path, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(path, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true
        };
        try
        {
            return Process.Start(start) ?? throw new OutsideProgramException($"{path} could not be started.");
        }
        catch (Win32Exception e)
        {
            throw new OutsideProgramException($"{path} could not be started: {e.Message.TrimEnd('.')}.");
        }
    }

    private static void End(Process process)
    {
        try
        {
            process.Kill(entireProcessTree: true);
        }
        catch (InvalidOperationException)
        {
            // It ended by itself meanwhile.
        }
    }

    private static string? LastLine(string text) =>
        text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).LastOrDefault();

    private static string Behind(string? line) => line is null ? "." : $": {Quote(line)}.";
}
