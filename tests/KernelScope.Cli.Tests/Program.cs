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

/// <summary>Runs the built program, as a user does.</summary>
internal static class Program
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    /// <summary>The program beside the tests.</summary>
    public static string Assembly { get; } = Path.Combine(AppContext.BaseDirectory, "kernelscope.dll");

    public static string Host { get; } = Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet" ? Environment.ProcessPath!
        : "dotnet";

    public static Outcome Run(params string[] arguments) => RunWith(null, null, arguments);

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
