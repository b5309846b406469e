using System.Text.Json;
using System.Text.Json.Nodes;
using KernelScope.Files;

namespace KernelScope.Training.Runs;

/// <summary>Why an attempt at a shard failed: <c>failed/000123.2.json</c>.</summary>
/// <param name="Attempt">Its number, from 1.</param>
/// <param name="Error">One sentence.</param>
/// <param name="IsFinal">Whether trying again cannot help.</param>
internal sealed record FailedAttempt(int Attempt, string Error, bool IsFinal)
{
    /// <summary>Attempts after which a shard counts as failed for good.</summary>
    public const int Most = 4;

    /// <summary>Writes it under the next free number.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Record(RunFolder folder, RunPlan plan, int shard, string error, bool isFinal)
    {
        for (int attempt = folder.FailedAttempts().GetValueOrDefault(shard) + 1; ; attempt++)
        {
            string path = folder.At(RunFolder.Failed(shard, attempt));
            byte[] bytes = CanonicalJson.Write(new JsonObject
            {
                ["run"] = plan.Id,
                ["shard"] = shard,
                ["attempt"] = attempt,
                ["error"] = BadFile.Printable(error, 1000),
                ["retry_helps"] = !isFinal,
                ["worker"] = WorkerName.Own,
                ["host"] = WorkerName.Host,
                ["id"] = Guid.NewGuid().ToString("N"),
            });
            try
            {
                PlacedFile.Write(path, bytes);
                return;
            }
            catch (ShardConflictException)
            {
                // Somebody failed at the same time.
            }
        }
    }

    /// <summary>The last failed attempt at a shard; null if its record cannot be read.</summary>
    public static FailedAttempt? Read(RunFolder folder, int shard, int attempt)
    {
        string path = folder.At(RunFolder.Failed(shard, attempt));
        try
        {
            using JsonDocument document = JsonText.ReadObject(path, 1 << 20);
            var root = new RunField(document.RootElement, path, "");
            return new FailedAttempt(attempt, root["error"].Text, !root["retry_helps"].Bool);
        }
        catch (InvalidDataException)
        {
            return null;
        }
    }
}
