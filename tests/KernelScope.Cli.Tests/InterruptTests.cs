using System.Diagnostics;
using System.Runtime.InteropServices;

namespace KernelScope.Cli.Tests;

/// <summary>Ctrl+C and termination end a run without a half-written file.</summary>
public sealed partial class InterruptTests
{
    private const int SigHup = 1;
    private const int SigInt = 2;
    private const int SigTerm = 15;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(SigHup, 129)]
    [InlineData(SigInt, 130)]
    [InlineData(SigTerm, 143)]
    public void A_signal_ends_generation(int signal, int exitCode)
    {
        if (!OperatingSystem.IsLinux())
            return;
        using Process process = Start("generate", "Once upon a time", "--ignore-eos", "--max-new-tokens", "500", "--device", "reference");
        Assert.NotEqual(-1, process.StandardOutput.Read());
        Assert.Equal(0, Kill(process.Id, signal));
        Outcome outcome = Program.Finish(process);
        outcome.AssertFailed(exitCode, "interrupted");
    }

    [Theory]
    [InlineData(SigHup, 129)]
    [InlineData(SigInt, 130)]
    public void An_interrupted_run_leaves_no_file(int signal, int exitCode)
    {
        if (!OperatingSystem.IsLinux())
            return;
        using var folder = new TempFolder();
        string ids = string.Join(',', Enumerable.Repeat(1715, 511).Prepend(2));
        using Process process = Start("run", "--tokens", ids, "--capture", "all", "--out", folder.At("acts.npz"), "--device", "reference");
        var watch = Stopwatch.StartNew();
        while (folder.Files.Length == 0 && watch.Elapsed < Patience)
            Thread.Sleep(5);
        Assert.NotEmpty(folder.Files);
        Assert.Equal(0, Kill(process.Id, signal));
        Program.Finish(process).AssertFailed(exitCode, "interrupted");
        Assert.Empty(folder.Files);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Ctrl_C_ends_an_answer_and_then_the_conversation(bool waitsForTheMark)
    {
        if (!OperatingSystem.IsLinux() || !File.Exists("/usr/bin/script"))
            return;
        const char CtrlC = '\x03';
        string command =
            $"env --default-signal=INT {Program.Host} exec {Program.Assembly} generate --chat --ignore-eos --max-new-tokens 400 "
                + "--device reference";
        using Process process = Program.Start(new ProcessStartInfo("/usr/bin/script", ["-qefc", command, "/dev/null"]));
        var screen = new System.Text.StringBuilder();
        WaitFor("> ");
        Type("Hello there\n");
        WaitForAnswerTo("Hello there\r\n");
        Type($"{CtrlC}");
        if (waitsForTheMark)
        {
            WaitFor("> ");
            Type("And you?\n");
            WaitForAnswerTo("And you?\r\n");
            Type($"{CtrlC}");
            WaitFor("> ");
        }

        // While the answer ends, or at the mark. Two at once are one signal, so that it may take a third.
        var watch = Stopwatch.StartNew();
        while (!process.HasExited && watch.Elapsed < Patience)
        {
            Type($"{CtrlC}");
            process.WaitForExit(500);
        }

        Assert.True(process.HasExited, $"It goes on: {screen}");
        Assert.Equal(130, process.ExitCode);

        void Type(string text)
        {
            process.StandardInput.Write(text);
            process.StandardInput.Flush();
        }

        void WaitFor(string text)
        {
            while (!screen.ToString().Contains(text, StringComparison.Ordinal))
                WaitForMore();
            screen.Remove(0, screen.ToString().IndexOf(text, StringComparison.Ordinal) + text.Length);
        }

        // What was typed before the program read it is echoed twice: by the terminal and by the console.
        void WaitForAnswerTo(string echo)
        {
            WaitFor(echo);
            while (echo.StartsWith(screen.Replace(echo, "").ToString(), StringComparison.Ordinal))
                WaitForMore();
        }

        void WaitForMore()
        {
            Task<int> read = Task.Run(process.StandardOutput.Read);
            if (!read.Wait(Patience) || read.Result < 0)
            {
                process.Kill(entireProcessTree: true);
                Assert.Fail($"Nothing more comes after: {screen}");
            }

            screen.Append((char)read.Result);
        }
    }

    /// <summary>A job that a shell starts in the background ignores SIGINT, and its children inherit that; env undoes it and then becomes the program.</summary>
    private static Process Start(params string[] arguments) =>
        Program.Start(new ProcessStartInfo("env", ["--default-signal=INT,HUP", Program.Host, "exec", Program.Assembly, .. arguments]));

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int process, int signal);
}
