using System.Diagnostics;
using System.Text;

namespace KernelScope.Cli.Tests;

/// <summary>The examples of the help.</summary>
public sealed class ExampleTests
{
    /// <summary>
    /// Each verb's examples one after the other in one folder, by a shell, as somebody would paste them. Only what needs a hub is left out.
    /// </summary>
    [Theory]
    [MemberData(nameof(HelpTests.Verbs), MemberType = typeof(HelpTests))]
    public void Every_example_works_as_it_is_written(string verb)
    {
        // A server runs until it is ended: see ServeTests.
        if (verb is "pull" or "serve" || OperatingSystem.IsWindows())
            return;
        using var folder = new TempFolder();
        byte[] lines = Encoding.UTF8.GetBytes($"#!/bin/sh\nexec '{Program.Host}' exec '{Program.Assembly}' \"$@\"\n");
        string script = folder.Write("kernelscope", lines);
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        foreach (string example in HelpTests.Examples(verb))
        {
            // The whole suite: VerifyTests runs it, and looks at what it says.
            if (example == "kernelscope verify --device cpu")
                continue;
            var start = new ProcessStartInfo("/bin/sh", ["-c", example]) { WorkingDirectory = folder.Path };
            var environment = new Dictionary<string, string>
            {
                ["PATH"] = $"{folder.Path}:{Environment.GetEnvironmentVariable("PATH")}",
                ["HOME"] = folder.Path,
                ["XDG_CACHE_HOME"] = folder.At("cache"),
            };
            using Process process = Program.Start(start, environment);
            process.StandardInput.Close();
            Outcome outcome = Program.Finish(process);
            Assert.True(outcome.ExitCode == 0, $"{example}: exit {outcome.ExitCode}, {outcome.Error}");
            // What the shell writes to a file is not printed.
            if (!example.Contains(" > ", StringComparison.Ordinal))
                Assert.NotEqual("", outcome.Output);
            Assert.DoesNotContain("warning", outcome.Error, StringComparison.Ordinal);
        }
    }
}
