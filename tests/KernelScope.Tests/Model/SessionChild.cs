using System.Diagnostics;
using System.Globalization;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>A saved session in a process of its own.</summary>
internal static class SessionChild
{
    public const string Verb = "session";

    /// <summary>Runs the child: it loads a session, feeds tokens, and gives the bits of the last logits in hexadecimal.</summary>
    public static string Start(string model, string device, string path, int[] tokens)
    {
        var start = new ProcessStartInfo("dotnet",
            ["exec", typeof(SessionChild).Assembly.Location,
                Verb, model, device, path, string.Join(',', tokens)])
        { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process child = Process.Start(start)!;
        Task<string> error = child.StandardError.ReadToEndAsync();
        string output = child.StandardOutput.ReadToEnd();
        Assert.True(child.WaitForExit(60_000));
        Assert.True(child.ExitCode == 0, error.Result);
        return output.Trim();
    }

    public static int Run(ReadOnlySpan<string> args)
    {
        using Device device = TestDevices.Open(args[1]);
        using Gemma2Model model = Gemma2Model.Open(device, args[0]);
        using Session session = model.LoadSession(args[2]);
        float[] logits = new float[model.Config.VocabSize];
        device.Read(session.Prefill(Array.ConvertAll(args[3].Split(','), id => int.Parse(id, CultureInfo.InvariantCulture))), logits);
        Console.WriteLine(
            string.Concat(logits.Select(v => BitConverter.SingleToInt32Bits(v).ToString("x8", CultureInfo.InvariantCulture))));
        return 0;
    }
}
