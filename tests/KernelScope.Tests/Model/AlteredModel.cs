using System.Buffers.Binary;
using System.Text.Json.Nodes;

namespace KernelScope.Tests.Model;

/// <summary>A copy of a model's folder with its config.json edited, or its tensors renamed or rewritten: a mistake made in the files instead of in the code.</summary>
internal sealed class AlteredModel : IDisposable
{
    public AlteredModel(string name, Action<JsonObject>? config = null, Action<JsonObject, byte[]>? weights = null)
    {
        Folder = Directory.CreateTempSubdirectory("kernelscope-altered-").FullName;
        foreach (string file in Directory.GetFiles(Fixtures.Path("gemma2", "models", name)))
        {
            string target = Path.Combine(Folder, Path.GetFileName(file));
            if (Path.GetFileName(file) == "config.json" && config is not null)
                File.WriteAllText(target, Edited(File.ReadAllText(file), config));
            else if (file.EndsWith(".safetensors", StringComparison.Ordinal) && weights is not null)
                File.WriteAllBytes(target, Rewritten(File.ReadAllBytes(file), weights));
            else
                File.Copy(file, target);
        }
    }

    public string Folder { get; }

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    /// <summary>Exchanges what two names stand for in a safetensors header.</summary>
    public static void Swap(JsonObject header, string first, string second)
    {
        JsonNode a = header[first]!.DeepClone(), b = header[second]!.DeepClone();
        header[first] = b;
        header[second] = a;
    }

    /// <summary>The bytes of a tensor, to be changed in place.</summary>
    public static Span<byte> Bytes(JsonObject header, byte[] data, string name)
    {
        JsonArray offsets = header[name]!["data_offsets"]!.AsArray();
        int begin = (int)offsets[0]!, end = (int)offsets[1]!;
        return data.AsSpan(begin, end - begin);
    }

    private static string Edited(string json, Action<JsonObject> edit)
    {
        JsonObject config = JsonNode.Parse(json)!.AsObject();
        edit(config);
        return config.ToJsonString();
    }

    /// <summary>A safetensors file with its header, or its data, changed.</summary>
    public static byte[] Rewritten(byte[] file, Action<JsonObject, byte[]> edit)
    {
        int length = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        JsonObject header = JsonNode.Parse(file.AsSpan(8, length))!.AsObject();
        byte[] data = file[(8 + length)..];
        edit(header, data);
        byte[] json = System.Text.Encoding.UTF8.GetBytes(header.ToJsonString());
        byte[] result = new byte[8 + json.Length + data.Length];
        BinaryPrimitives.WriteInt64LittleEndian(result, json.Length);
        json.CopyTo(result, 8);
        data.CopyTo(result, 8 + json.Length);
        return result;
    }
}
