using System.Text.Json;
using KernelScope.PtxEmulator;

namespace KernelScope.Samples;

/// <summary>Runs the sample whose number is given; the rest of the arguments are the sample's own.</summary>
internal static class Program
{
    private static readonly (string Name, string Arguments, string What, Action<string[]> Main)[] Samples =
    [
        ("01", "", "tokens", Tokens.Main),
        ("02", "", "one forward pass", ForwardPass.Main),
        ("03", "", "the residual stream", ResidualStream.Main),
        ("04", "", "an SAE's features", Features.Main),
        ("05", "", "capture and edit", CaptureAndEdit.Main),
        ("06", "", "steering", Steer.Main),
        ("07", "FILE.npz", "splice and measure", SpliceAndMeasure.Main),
        ("08", "FILE.npz", "diff with another runtime", DiffWithAnotherRuntime.Main),
        ("09", "", "embed in a web program", WebProgram.Main),
        ("10", "FILE.ptx", "read a kernel", ReadAKernel.Main),
        ("11", "", "your own SAE", YourOwnSae.Main),
        ("gemma", "FOLDER TEXT COUNT", "Gemma 2 in one file", Gemma2InOneFile.Main),
    ];

    public static void Main(string[] args)
    {
        (_, string? expected, _, Action<string[]>? sample) = Array.Find(Samples, s => args.Length > 0 && s.Name == args[0]);
        if (sample is null || expected!.Split(' ', StringSplitOptions.RemoveEmptyEntries).Length != args.Length - 1)
        {
            Console.Error.WriteLine("Give the number of a sample, and what it reads (its page has the whole command):");
            foreach ((string name, string arguments, string what, _) in Samples)
                Console.Error.WriteLine($"  {name,-5} {arguments,-17}  {what}");
            Environment.ExitCode = 2;
            return;
        }

        try
        {
            sample(args[1..]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException or ArgumentException
            or KeyNotFoundException or JsonException or PtxSyntaxException or EmulatorFault)
        {
            Console.Error.WriteLine(e.Message);
            Environment.ExitCode = 1;
        }
    }
}
