using System.Runtime.CompilerServices;
using KernelScope.Cli.Inspection;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Tests.Files;

/// <summary>
/// Spoiled files of every format: a reader gives tensors whose every byte can be read, or one sentence. A crash, another exception or a read outside the file ends the run.
/// The case number in a failure is its seed.
/// </summary>
public sealed class MutationTests
{
    private const int Formats = 8;

    public static TheoryData<string> Kinds() =>
        ["safetensors", "npz", "npz-deflate", "npz-descriptor", "config", "tokenizer", "saelens-config", "index"];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_hundred_thousand_spoiled_files_crash_no_reader(string kind) => Run(kind, 100_000 / Formats, firstSeed: 1);

    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(Kinds))]
    public void A_million_spoiled_files_crash_no_reader(string kind) => Run(kind, 1_000_000 / Formats, firstSeed: 10_000_000);

    private static void Run(string kind, int count, int firstSeed)
    {
        (string name, byte[] valid) = Valid(kind);
        Assert.True(Opens(kind, name, valid), "the file is not valid before it is spoiled");
        int opened = 0;
        Parallel.For(0, count, new ParallelOptions { MaxDegreeOfParallelism = 2 }, () => new TempFolder(), (n, _, folder) =>
        {
            var random = new Random(firstSeed + n);
            byte[] bytes = random.Next(50) == 0 ? Noise(random) : Mutation.Of(valid, random);
            PrepareNeighbours(kind, folder);
            string path = folder.Write(name, bytes);
            try
            {
                if (Read(kind, path))
                    Interlocked.Increment(ref opened);
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"case {firstSeed + n} of {kind}: {e.Message}", e);
            }
            return folder;
        }, folder => folder.Dispose());
        // Both outcomes must occur, or the mutations test nothing.
        Assert.InRange(opened, 1, count - 1);
    }

    private static bool Opens(string kind, string name, byte[] valid)
    {
        using var folder = new TempFolder();
        PrepareNeighbours(kind, folder);
        return Read(kind, folder.Write(name, valid));
    }

    private static (string Name, byte[] Bytes) Valid(string kind) => kind switch
    {
        "safetensors" => ("a.safetensors", File.ReadAllBytes(HostileFiles.Path("saelens/valid/sae_weights.safetensors"))),
        "npz" => ("params.npz", File.ReadAllBytes(HostileFiles.Path("npz/valid-zip64/params.npz"))),
        "npz-deflate" => ("params.npz", File.ReadAllBytes(HostileFiles.Path("npz/valid-deflate/params.npz"))),
        "npz-descriptor" => ("acts.npz", File.ReadAllBytes(HostileFiles.Path("npz/valid-descriptor/params.npz"))),
        "config" => ("config.json", File.ReadAllBytes(HostileFiles.Path("config/valid-v5/config.json"))),
        "tokenizer" => ("tokenizer.model", File.ReadAllBytes(HostileFiles.Path("tokenizer/valid/tokenizer.model"))),
        "saelens-config" => (SaeCheckpoint.ConfigName, File.ReadAllBytes(HostileFiles.Path("saelens/valid/cfg.json"))),
        _ => ("model.safetensors.index.json", File.ReadAllBytes(HostileFiles.Path("model/valid-sharded/model.safetensors.index.json"))),
    };

    // The files that the spoiled one speaks of.
    private static void PrepareNeighbours(string kind, TempFolder folder)
    {
        string? from = kind switch { "saelens-config" => "saelens/valid", "index" => "model/valid-sharded", _ => null };
        if (from is null || Directory.EnumerateFiles(folder.Path).Any())
            return;
        TempFolder.CopyFolder(HostileFiles.Path(from), folder.Path);
    }

    private static byte[] Noise(Random random)
    {
        byte[] bytes = new byte[random.Next(300)];
        random.NextBytes(bytes);
        return bytes;
    }

    private static bool Read(string kind, string path)
    {
        InspectionResult result = Inspector.Inspect(path, new InspectOptions { Statistics = true });
        if (!result.Ok)
            Sentences.Check(result.Error!, Path.GetDirectoryName(path)!);
        bool loads = Loads(kind, path);
        // Loading may leave out what inspection reads to the end (checksums of stored entries), never the other way round.
        Assert.True(loads || !result.Ok, "inspection passed what loading refuses");
        return result.Ok;
    }

    private static bool Loads(string kind, string path)
    {
        try
        {
            if (kind is "npz" or "npz-deflate")
                using (SaeCheckpoint sae = SaeCheckpoint.Open(path)) return Touch([sae.Encoder, sae.Decoder, sae.Threshold!.Value]);
            if (kind == "npz-descriptor")
                using (NpzFile file = NpzFile.Open(path)) return Touch(file.Tensors);
            if (kind == "safetensors")
                using (SafetensorsFile file = SafetensorsFile.Open(path)) return Touch(file.Tensors);
            return true;
        }
        catch (InvalidDataException e)
        {
            Sentences.Check(e.Message, Path.GetDirectoryName(path)!);
            return false;
        }
    }

    private static unsafe bool Touch(IEnumerable<TensorView> tensors)
    {
        int sum = 0;
        foreach (TensorView tensor in tensors)
            for (long i = 0; i < tensor.ByteLength; i++)
                sum += tensor.Pointer[i];
        Consume(sum);
        return true;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Consume(int _)
    {
    }
}
