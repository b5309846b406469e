using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace KernelScope.Cli.Tests;

/// <summary>What a run of the program gave.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>The one JSON document on standard output, which nothing but a line end follows.</summary>
    public JsonElement Json()
    {
        Assert.True(ExitCode == 0, Error);
        Assert.EndsWith("\n", Output, StringComparison.Ordinal);
        return JsonElement.Parse(Output);
    }

    /// <summary>Asserts that it failed with one sentence and no stack trace.</summary>
    public void AssertFailed(int exitCode, params ReadOnlySpan<string> words)
    {
        Assert.True(ExitCode == exitCode, $"exit {ExitCode} instead of {exitCode}: {Error}{Output}");
        // What looked wrong before it failed may have been said.
        string[] lines =
            [.. Error.Split('\n', StringSplitOptions.RemoveEmptyEntries)
                .Where(l => !l.StartsWith("kernelscope: warning: ", StringComparison.Ordinal))];
        Assert.StartsWith("kernelscope: ", lines[0], StringComparison.Ordinal);
        Assert.Equal(exitCode == 2 ? 2 : 1, lines.Length);
        Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
        Assert.DoesNotContain("defect", Error, StringComparison.Ordinal);
        Assert.DoesNotContain("(Parameter", Error, StringComparison.Ordinal);
        foreach (string word in words)
            Assert.Contains(word, lines[0], StringComparison.Ordinal);
    }
}

/// <summary>
/// Runs the program: in this process where a run has nothing but arguments, which spares a start and a compilation of some half a second;
/// in one of its own where standard input, the environment or signals matter.
/// </summary>
internal static class Program
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    /// <summary>The program beside the tests.</summary>
    public static string Assembly { get; } = Path.Combine(AppContext.BaseDirectory, "kernelscope.dll");

    public static string Host { get; } = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? Environment.ProcessPath!
        : "dotnet";

    /// <summary>Runs in this process; what reads standard input runs in one of its own.</summary>
    public static Outcome Run(params string[] arguments)
    {
        if (arguments.Contains("-"))
            return RunAlone(arguments);
        using MemoryStream output = new(), error = new();
        using var stop = new CancellationTokenSource(Patience);
        int code;
        using (var streams = new Streams(output, error))
            code = CommandLine.Run(arguments, new VerbEnvironment(streams, new Interruption(), stop.Token));
        Assert.False(stop.IsCancellationRequested, $"It did not end within {Patience}.");
        return new Outcome(code, Utf8.GetString(output.ToArray()), Utf8.GetString(error.ToArray()));
    }

    /// <summary>Runs in a process of its own, with an empty standard input, as a user does.</summary>
    public static Outcome RunAlone(params string[] arguments) => RunWith(null, null, arguments);

    public static JsonElement Json(params string[] arguments) => Run([.. arguments, "--json"]).Json();

    /// <summary>Runs with a text on standard input, or with environment variables.</summary>
    public static Outcome RunWith(string? input, IReadOnlyDictionary<string, string>? environment, params string[] arguments)
    {
        using Process process = Start(new ProcessStartInfo(Host, ["exec", Assembly, .. arguments]), environment);
        process.StandardInput.Write(input ?? "");
        process.StandardInput.Close();
        return Finish(process);
    }

    /// <summary>Starts a process with its streams redirected.</summary>
    public static Process Start(ProcessStartInfo start, IReadOnlyDictionary<string, string>? environment = null)
    {
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        start.StandardOutputEncoding = start.StandardErrorEncoding = start.StandardInputEncoding = Utf8;
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
            start.Environment[name] = value;
        return Process.Start(start)!;
    }

    /// <summary>Reads all that it says and waits for its end.</summary>
    public static Outcome Finish(Process process)
    {
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(Patience))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"It did not end within {Patience}.");
        }

        return new Outcome(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }
}
