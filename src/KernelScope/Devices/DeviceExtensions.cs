using KernelScope.Files;

namespace KernelScope.Devices;

/// <summary>Steps of loading that are the same on every device.</summary>
internal static class DeviceExtensions
{
    /// <summary>Brings a stored vector to the device as float32, [1, n]; its buffer is added to <paramref name="owned"/> and belongs to <paramref name="owner"/>.</summary>
    public static Mat CreateVector(this Device device, TensorView tensor, string name, List<IDisposable> owned, string owner)
    {
        float[] values = new float[checked((int)tensor.ElementCount)];
        tensor.CopyTo(values);
        Mat vector = device.CreateMat(1, values.Length, name);
        vector.Buffer.Owner = owner;
        owned.Add(vector.Buffer);
        device.Write(values, vector);
        return vector;
    }
}
